//! Programs of `make demo`: real servers, real daemons, and VPP's own table.

pub mod environment;
pub mod screen;
pub mod server;
pub mod show;
pub mod table;
