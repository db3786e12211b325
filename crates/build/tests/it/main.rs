//! Tests of the builder as a whole: golden Dockerfiles, builds in a real store, and, where the machine
//! allows it, real `RUN` steps.

mod builds;
mod classic;
mod golden;
mod harness;
mod hostile;
mod real;
mod reproducible;
