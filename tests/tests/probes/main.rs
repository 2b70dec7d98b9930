//! The real prober, as an ordinary user with `CAP_NET_RAW`, against real servers on another host.

#![cfg(test)]

mod half_open;
mod http;
mod icmp;
mod keep_alive;
mod local_faults;
mod tcp;
mod tls;
mod tls_openssl;

use maglev_lab::fixtures::ProberFixture;
