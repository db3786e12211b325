//! The network crate against the real kernel, in network namespaces that each test makes and that vanish with
//! it. Nothing touches the machine's own links or rules. Where namespaces cannot be made (not root), each test
//! prints why and is skipped.

mod bridges;
mod firewalls;
mod lab;
mod ownership;
mod published;
mod reserved;
