//! The overflow report: one line that says whose stack is full and how to give it more.
//!
//! Without it an overflow is a bare "segmentation fault": std's own handler knows the guards of
//! threads only.

use super::coroutine::{self, Label};
use super::stack::Stack;
use crate::sys::fault;

/// Arms the report for this process and this thread. The returned value belongs to the thread and
/// is to be kept as long as it runs coroutines.
pub(crate) fn catch_overflows() -> Option<fault::HandlerStack> {
    fault::install(report_if_ours);
    // Without a handler stack an overflow still ends the process, only without the report.
    fault::HandlerStack::ensure().ok().flatten()
}

/// Runs in a signal handler.
fn report_if_ours(address: usize) -> bool {
    let reported = coroutine::look_at_running(|label, stack| {
        let ours = stack.guards(address);
        if ours {
            report(label, stack);
        }
        ours
    });
    reported == Some(true)
}

fn report(label: &Label, stack: &Stack) {
    let mut line = Line::default();
    line.text(b"\ngreenloom: greenlet \"");
    match &label.name {
        Some(name) => line.text(name.as_bytes()),
        None => {
            line.text(b"greenlet-");
            line.number(label.number);
        }
    }
    line.text(b"\" has overflowed its stack of ");
    line.number((stack.size().usable() / 1024) as u64);
    line.text(b" KiB; give it more with greenloom::Builder::stack_size(bytes)\n");
    fault::write_stderr(line.written());
}

/// Text put together without allocating; what does not fit is left out.
struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Default for Line {
    fn default() -> Line {
        Line { bytes: [0; 512], len: 0 }
    }
}

impl Line {
    fn text(&mut self, text: &[u8]) {
        // A name of any length leaves room for what follows it.
        let room = (self.bytes.len() - self.len).min(256);
        let len = text.len().min(room);
        self.bytes[self.len..self.len + len].copy_from_slice(&text[..len]);
        self.len += len;
    }

    fn number(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.text(&digits[at..]);
    }

    fn written(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_long_names_fit() {
        let mut line = Line::default();
        line.number(0);
        line.text(b" ");
        line.number(u64::MAX);
        assert_eq!(line.written(), b"0 18446744073709551615");
        line.text(&[b'x'; 1000]);
        line.text(b"end");
        assert!(line.written().ends_with(b"xend"));
    }
}
