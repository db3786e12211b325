//! End-to-end tests: a real daemon, driven by the stock `docker` CLI and by `gantry`.

mod api;
mod archives;
mod bad_disks;
mod bollard;
mod build;
mod cleanup;
mod clock;
mod copy;
mod crashes;
mod docker_py;
mod flags;
mod full_disk;
mod images;
mod lifecycle;
mod limits;
mod log_flood;
mod network;
mod platforms;
mod reach;
mod reference;
mod run;
mod survival;
mod tty;
mod units;
mod volumes;
