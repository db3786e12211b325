//! The server on real sockets, against clients that are slow, rude, or gone.

mod connections;
mod hijacking;
mod rig;
mod routing;
