//! What `make demo` shows: real servers, real daemons, and VPP's own table.

pub mod screen;
pub mod server;
pub mod show;
pub mod environment;
pub mod table;
