//! stub
mod grpc;
mod handle;
mod listen;
mod log;
mod version;
fn main() {}
