//! The events of an instance that were not read yet.

use std::collections::VecDeque;

/// `fs.inotify.max_queued_events`.
const MAX_EVENTS: usize = 16_384;
/// `sizeof(struct inotify_event)`; names are padded to a multiple of it.
const HEADER: usize = 16;

/// `struct inotify_event`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    descriptor: i32,
    mask: u32,
    cookie: u32,
    name: Option<Box<[u8]>>,
}

impl Event {
    pub(super) fn new(descriptor: i32, mask: u32, cookie: u32, name: Option<&[u8]>) -> Self {
        Self { descriptor, mask, cookie, name: name.map(Box::from) }
    }

    fn name_len(&self) -> usize {
        // With its NUL, padded.
        self.name.as_ref().map_or(0, |name| (name.len() + 1).next_multiple_of(HEADER))
    }

    fn len(&self) -> usize {
        HEADER + self.name_len()
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        bytes.extend_from_slice(&self.descriptor.to_ne_bytes());
        bytes.extend_from_slice(&self.mask.to_ne_bytes());
        bytes.extend_from_slice(&self.cookie.to_ne_bytes());
        bytes.extend_from_slice(&(self.name_len() as u32).to_ne_bytes());
        bytes.extend_from_slice(self.name.as_deref().unwrap_or_default());
        bytes.resize(self.len(), 0);
        bytes
    }
}

#[derive(Debug, Default)]
pub(super) struct EventQueue {
    events: VecDeque<Event>,
    bytes: usize,
}

impl EventQueue {
    /// Adds an event; one that repeats the last is dropped. When there are too many, a single
    /// IN_Q_OVERFLOW stands for the rest. True when something was added.
    pub(super) fn push(&mut self, event: Event) -> bool {
        if self.events.back() == Some(&event) {
            return false;
        }
        let event = match self.events.len() {
            MAX_EVENTS.. => return false,
            len if len + 1 == MAX_EVENTS => Event::new(-1, libc::IN_Q_OVERFLOW, 0, None),
            _ => event,
        };
        self.bytes += event.len();
        self.events.push_back(event);
        true
    }

    /// The first event, if `room` bytes hold it; `Err` when they do not.
    pub(super) fn take_if_fits(&mut self, room: usize) -> Result<Option<Event>, ()> {
        match self.events.front() {
            Some(event) if event.len() > room => Err(()),
            _ => {
                let event = self.events.pop_front();
                self.bytes -= event.as_ref().map_or(0, Event::len);
                Ok(event)
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// What FIONREAD reports.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_events_are_one() {
        let mut queue = EventQueue::default();
        assert!(queue.push(Event::new(1, libc::IN_MODIFY, 0, Some(b"a"))));
        assert!(!queue.push(Event::new(1, libc::IN_MODIFY, 0, Some(b"a"))));
        assert!(queue.push(Event::new(1, libc::IN_MODIFY, 0, Some(b"b"))));
        assert_eq!(queue.bytes(), 64);
    }

    #[test]
    fn a_full_queue_ends_with_an_overflow() {
        let mut queue = EventQueue::default();
        for number in 0..20_000 {
            queue.push(Event::new(number, libc::IN_OPEN, 0, None));
        }
        assert_eq!(queue.events.len(), MAX_EVENTS);
        assert_eq!(queue.events.back(), Some(&Event::new(-1, libc::IN_Q_OVERFLOW, 0, None)));
    }
}
