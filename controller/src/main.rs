//! stub
#[allow(dead_code)]
mod config;
mod handle;
fn main() {}
