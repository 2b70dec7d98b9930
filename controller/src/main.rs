//! stub
mod handle;
fn main() {}
