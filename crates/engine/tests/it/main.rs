//! The real engine with real shims, namespaces, cgroups and a bridge. Needs root; says so where it is not.

mod lifecycle;
mod network;
mod recovery;
mod streams;
mod world;

use world::World;
