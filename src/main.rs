//! The `ringgate` command.
//!
//! Exit codes: 0 done, 1 the configuration is wrong, 2 wrong usage, 3 it can't run, 130 interrupted.

use clap::{Parser, Subcommand};
use ringgate::control::{self, Exit, Loading};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An API gateway for Linux io_uring hosts.
#[derive(Parser)]
#[command(name = "ringgate", version, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 the configuration is wrong, 2 wrong usage, \
                        3 it can't run, 130 interrupted by a second SIGINT.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
    Run {
        /// The process's settings; apisix.yaml is read beside it
        #[arg(short, long, default_value = "conf/config.yaml")]
        config: PathBuf,
    },
    /// Check the configuration, plugins included, and exit
    Check {
        /// The process's settings; apisix.yaml is read beside it
        #[arg(short, long, default_value = "conf/config.yaml")]
        config: PathBuf,
    },
    /// Print the version
    Version,
}

fn main() -> ExitCode {
    let exit = match Arguments::parse().command {
        Command::Run { config } => control::run(&config),
        Command::Check { config } => check(&config),
        Command::Version => {
            println!("ringgate {}", env!("CARGO_PKG_VERSION"));
            Exit::Done
        }
    };
    ExitCode::from(exit as u8)
}

fn check(config: &Path) -> Exit {
    let checked = Loading::open(config).and_then(|mut loading| loading.snapshot());
    match checked {
        Ok((snapshot, warnings)) => {
            eprint!("{warnings}");
            println!("ringgate: {} is good: {} routes", config.display(), snapshot.routes.len());
            Exit::Done
        }
        Err(failure) => {
            eprint!("{failure}");
            Exit::BadConfig
        }
    }
}
