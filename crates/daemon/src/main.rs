//! gantryd: Docker's API over the engine and the builder of one host.
//!
//! Everything here is thin. [`options`] says what was asked for, [`serve`] wires engine, builder and
//! server together and waits for signals, a file of [`routes`] per resource reads a request and calls
//! one operation, and [`wire`] turns the engine's views into Docker's JSON and back. Nothing here
//! decides what a container is; whatever a test of Docker's behaviour would assert about a reply's
//! shape is in [`wire`].

mod body;
mod changes;
mod fetch;
mod fsck;
mod log;
mod network;
mod notify;
mod options;
mod ownership;
mod refusal;
mod routes;
mod serve;
mod settings;
mod wire;

use std::process::ExitCode;

use anyhow::Result;
use gantry_sys::{descriptors, memory};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let result = if arguments.next_if(|word| word == "fsck").is_some() {
        fsck::run(arguments)
    } else {
        start().map(|()| ExitCode::SUCCESS)
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            // For people: the chain of reasons in one line, never a backtrace.
            log::say(&format!("gantryd: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<()> {
    #[cfg(feature = "failpoints")]
    if std::env::args_os().nth(1).is_some_and(|word| word == "--list-failpoints") {
        use std::io::Write as _;
        let mut output = std::io::stdout();
        for point in gantry_model::failpoint::Point::ALL {
            writeln!(output, "{}", point.name())?;
        }
        return Ok(());
    }
    #[cfg(feature = "failpoints")]
    if std::env::args_os().nth(1).is_some_and(|word| word == "--lose-power") {
        let path = std::env::args_os().nth(2).unwrap_or_default();
        gantry_sys::filesystem::lose_power(std::fs::File::open(path)?)?;
        return Ok(());
    }
    #[cfg(feature = "failpoints")]
    gantry_model::failpoint::arm("FAILPOINTS");
    memory::prefer_few_arenas();
    let options = options::Options::read()?;
    settings::check(&options)?;
    if options.validate {
        log::say("configuration OK");
        return Ok(());
    }
    let _log = log::begin(&options);
    // Three descriptors a running container.
    if let Err(error) = descriptors::raise_limit() {
        let error = std::io::Error::from_raw_os_error(error);
        tracing::warn!("the limit of open files was not raised: {error}");
    }
    // Two workers are enough for what a request costs; whatever blocks has threads of its own, which end
    // when they were idle for a while. That is when the daemon comes to rest, and gives back what it needed.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4))
        .thread_keep_alive(std::time::Duration::from_secs(5))
        .on_thread_stop(memory::trim_heap)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(serve::run(options));
    // A build that is being cancelled must not hold the end up for ever.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    ended
}
