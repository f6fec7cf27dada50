//! Starting monoio with the ring flags that measured best, or with epoll where there is no ring.

use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Which driver is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// `io_uring`, and epoll where a ring can't be set up.
    #[default]
    Auto,
    /// `io_uring` or nothing.
    Uring,
    /// epoll.
    Epoll,
}

/// Which driver runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// `io_uring`.
    Uring,
    /// epoll.
    Epoll,
}

/// Room for completions. Four times the ring's default entries: with thousands of connections many
/// operations complete between two looks.
const COMPLETIONS: u32 = 8192;

/// Runs a worker's future to its end on this thread. `made` is told which driver it runs on, and
/// why it is not the ring.
///
/// # Errors
/// The driver asked for can't be set up.
pub fn run<F: Future>(
    choice: DriverChoice,
    entries: u32,
    made: impl FnOnce(DriverKind, Option<io::Error>),
    future: F,
) -> io::Result<F::Output> {
    if choice == DriverChoice::Epoll {
        return run_epoll(|| made(DriverKind::Epoll, None), future);
    }
    match build_ring(entries) {
        Ok(mut runtime) => {
            made(DriverKind::Uring, None);
            Ok(runtime.block_on(future))
        }
        Err(error) if choice == DriverChoice::Uring => Err(error),
        Err(error) => run_epoll(|| made(DriverKind::Epoll, Some(error)), future),
    }
}

/// A ring whose completions wait until the loop asks for them, and whose submitting thread the
/// kernel knows to be one: the default ring interrupts the thread for every completion and costs a
/// third more CPU.
///
/// Leaving the completions' own work to the loop's waiting call as well (Linux 6.1) is 2 to 9 %
/// cheaper than doing it at whichever system call comes next (6.0). The waiting call is then the
/// only one that sees completions: a run queue that never empties would starve I/O. Every wait in
/// here is for I/O, a timer, or a task that waits for one, so it does empty.
fn build_ring(entries: u32) -> io::Result<monoio::Runtime<TimeDriver<IoUringDriver>>> {
    let build = |deferred: bool| {
        let mut ring = io_uring::IoUring::builder();
        ring.setup_single_issuer().setup_cqsize(COMPLETIONS.max(entries.next_power_of_two()));
        if deferred {
            ring.setup_defer_taskrun();
        } else {
            ring.setup_coop_taskrun().setup_taskrun_flag();
        }
        RuntimeBuilder::<IoUringDriver>::new()
            .uring_builder(ring)
            .with_entries(entries)
            .enable_timer()
            .build()
    };
    build(true).or_else(|_| build(false))
}

fn run_epoll<F: Future>(made: impl FnOnce(), future: F) -> io::Result<F::Output> {
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?;
    made();
    Ok(runtime.block_on(future))
}

/// Pins this thread to a core.
///
/// # Errors
/// The core does not exist or is not ours to use.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    monoio::utils::bind_to_cpu_set([core])
        .map_err(|errno| io::Error::from_raw_os_error(errno as i32))
}

/// Starts a task on this thread's loop.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    drop(monoio::spawn(future));
}

/// Waits, on this thread's loop.
pub async fn sleep_ms(ms: u64) {
    monoio::time::sleep(Duration::from_millis(ms)).await;
}

/// What comes of `future` within so many milliseconds; after that it is dropped.
pub async fn within_ms<F: Future>(ms: u64, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut late = pin!(sleep_ms(ms));
    poll_fn(|cx| {
        if let Poll::Ready(done) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        late.as_mut().poll(cx).map(|()| None)
    })
    .await
}
