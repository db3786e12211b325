//! Names of containers.
