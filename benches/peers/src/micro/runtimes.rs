//! How each peer is started: one thread that runs tasks, and what people switch on by default.

use std::future::Future;

use async_executor::LocalExecutor;

/// Runs it as a greenlet: the thread's own stack waits in another way.
pub(super) fn greenloom<T: 'static>(main: impl FnOnce() -> T + 'static) -> T {
    greenloom::spawn(main).get().expect("it does not panic")
}

/// current_thread, with all drivers, as `#[tokio::main(flavor = "current_thread")]` has it.
pub(super) fn tokio<T: Send + 'static>(main: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("has a poller").block_on(async { tokio::spawn(main).await.expect("no panic") })
}

/// One worker, that stays where the process is pinned to, and keeps `stacks` warm. Its default of
/// 1,000 would make it map and unmap one for each task beyond them.
pub(super) fn may<T: Send + 'static>(
    stacks: usize,
    main: impl FnOnce() -> T + Send + 'static,
) -> T {
    may::config().set_workers(1).set_pool_capacity(stacks.max(1_000)).set_worker_pin(false);
    may::go!(main).join().unwrap_or_else(|_| panic!("it does not panic"))
}

/// A local executor, and the poller of async-io on the same thread.
pub(super) fn smol<T, F: Future<Output = T> + 'static>(
    main: impl FnOnce(&'static LocalExecutor<'static>) -> F,
) -> T
where
    T: 'static,
{
    let executor: &_ = Box::leak(Box::new(LocalExecutor::new()));
    async_io::block_on(executor.run(executor.spawn(main(executor))))
}
