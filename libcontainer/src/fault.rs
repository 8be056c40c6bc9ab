//! Faults for tests. With the feature `fault`, KNARR_FAULT names one: a step of the child fails (`fail:STEP`), the child dies there
//! (`die:STEP`), or the caller is killed at the Nth point that it passes (`kill:N`). Without the feature nothing fails.

/// A fault in the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "fault"), allow(dead_code, reason = "only a build for tests makes one"))]
pub(crate) enum Fault {
    /// Report EIO instead of running the step.
    Fail(u32),
    /// End without a message.
    Die(u32),
}

#[cfg(feature = "fault")]
fn named(wanted: &str) -> Option<u32> {
    let text = std::env::var("KNARR_FAULT").ok()?;
    let (kind, number) = text.split_once(':')?;
    (kind == wanted).then(|| number.parse().ok())?
}

/// The fault of the next child.
#[cfg(feature = "fault")]
pub(crate) fn of_child() -> Option<Fault> {
    named("fail").map(Fault::Fail).or_else(|| named("die").map(Fault::Die))
}

/// A point between two changes of the host, where the caller may be killed.
#[cfg(feature = "fault")]
pub(crate) fn point() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let number = PASSED.fetch_add(1, Ordering::Relaxed);
    if named("kill") == Some(number) {
        let _ = crate::sys::process::kill(std::process::id().cast_signed(), libc::SIGKILL);
    }
}

#[cfg(not(feature = "fault"))]
pub(crate) fn of_child() -> Option<Fault> {
    None
}

#[cfg(not(feature = "fault"))]
pub(crate) fn point() {}
