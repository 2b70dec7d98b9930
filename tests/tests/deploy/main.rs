//! The deliverables on machines of their own: the package under systemd, and the container image.

#![cfg(test)]

mod fixtures;
mod image;
mod install;
mod lifecycle;
mod netns;
mod readme_walkthrough;
mod recovery;
mod sandbox;
mod service;
mod socket_access;
