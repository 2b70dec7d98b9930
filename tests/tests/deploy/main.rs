//! What is deployed, on machines of its own: the package under a systemd, and the container image.

#![cfg(test)]

mod doors;
mod image;
mod install;
mod lifecycle;
mod netns;
mod newcomer;
mod recovery;
mod sandbox;
mod service;
mod stage;
