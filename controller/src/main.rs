//! stub
#[cfg(test)]
mod fixture;
mod grpc;
mod handle;
mod listen;
mod log;
mod metrics;
mod version;
fn main() {}
