//! What is deployed, on machines of its own: the package under a systemd, and the container image.

#![cfg(test)]

mod image;
