//! stub
#[cfg(test)]
mod fixture;
mod grpc;
mod handle;
mod listen;
mod log;
mod version;
fn main() {}
