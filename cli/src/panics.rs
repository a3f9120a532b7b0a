//! Errors of our own. Sentry and gofer do not go on after one: whatever was under change when a thread panicked may
//! be half done, and what a guest can break once it can break on purpose. So the first panic of any thread ends the
//! whole process, before anything is unwound, and tells the launcher.

use std::{
    io::IoSlice,
    os::fd::OwnedFd,
    panic::{self, PanicHookInfo},
    sync::Arc,
};

use rustix::net::{SendAncillaryBuffer, SendFlags};
use sentry::boot::{FromSentry, Panic};

use crate::EXIT_FAILED;

/// Characters of a message, at most.
const MAX_TEXT: usize = 300;

/// From now on a panic ends this process, with a message to `launcher`.
pub(crate) fn end_process_on_panic(launcher: Arc<OwnedFd>) {
    panic::set_hook(Box::new(move |info| {
        let message = FromSentry::Panicked(describe(info));
        if let Ok(packet) = serde_json::to_vec(&message) {
            // It must not wait: the launcher may be stopped.
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let mut no_files = SendAncillaryBuffer::default();
            let packet = [IoSlice::new(&packet)];
            let _ = rustix::net::sendmsg(&*launcher, &packet, &mut no_files, flags);
        }
        platform::host::end_process(EXIT_FAILED.into())
    }));
}

/// The launcher's own panics.
pub(crate) fn say_in_one_line() {
    panic::set_hook(Box::new(|info| {
        let Panic { text, location, .. } = describe(info);
        eprintln!("lazaret: internal error in the launcher: {text} ({location})");
    }));
}

fn describe(info: &PanicHookInfo<'_>) -> Panic {
    let payload = info.payload();
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        // As it is written in the program.
        (Some(text), _) => clip(text),
        (None, Some(text)) => clip(&without_values(text)),
        (None, None) => "no message".to_owned(),
    };
    let location = info.location().map_or_else(String::new, |location| clip(&location.to_string()));
    let at_work = sentry::kernel::at_work();
    let thread = std::thread::current();
    let unnamed = if at_work.task.is_some() { "task" } else { "unnamed" };
    let thread = clip(thread.name().unwrap_or(unnamed));
    Panic { text, location, thread, task: at_work.task, last_call: at_work.last_call }
}

/// A message that was formatted, without the strings and structures that were put into it: those may be of the
/// guest. What they contain may look like their end, so all goes from the first beginning to the last end.
fn without_values(text: &str) -> String {
    let begin = text.find(['`', '"', '\'', '[', '{']);
    let Some((before, rest)) = begin.and_then(|at| text.split_at_checked(at)) else {
        return text.to_owned();
    };
    let after = rest.rfind(['`', '"', '\'', ']', '}']).filter(|end| *end > 0);
    let after = after.and_then(|end| rest.get(end.saturating_add(1)..)).unwrap_or_default();
    format!("{before}…{after}")
}

/// One line, of a length to be read. Also for what another process wrote.
pub(crate) fn clip(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MAX_TEXT).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_values_go() {
        let bounds = "index out of bounds: the len is 3 but the index is 7";
        assert_eq!(without_values(bounds), bounds);
        let inside =
            "byte index 1 is not a char boundary; it is inside 'é' (bytes 0..2) of `sec`ret`";
        assert_eq!(without_values(inside), "byte index 1 is not a char boundary; it is inside …");
        let unwrap = "called `Result::unwrap()` on an `Err` value: [115, 101, 99]";
        assert_eq!(without_values(unwrap), "called …");
        assert_eq!(without_values("an open `secret"), "an open …");
        assert_eq!(without_values("left: \"a\" and more"), "left: … and more");
    }

    #[test]
    fn lines_are_single_and_short() {
        assert_eq!(clip("two\nlines\u{1b}[2J"), "two lines [2J");
        assert_eq!(clip(&"long".repeat(1000)).len(), MAX_TEXT);
    }
}
