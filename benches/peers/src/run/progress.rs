//! How far we are: a bar on a terminal, lines anywhere else.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    all: usize,
    done: usize,
    said: String,
}

impl Progress {
    pub(crate) fn new(all: usize) -> Progress {
        let bar = stderr().is_terminal().then(|| {
            let style = "{elapsed_precise} {bar:30} {pos}/{len}, {eta} left: {msg}";
            let style = ProgressStyle::with_template(style).expect("the template is right");
            let bar = ProgressBar::new(all as u64).with_style(style);
            // Its thread draws twice a second; more would disturb what is measured.
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        Progress { bar, all, done: 0, said: String::new() }
    }

    /// Says what is done now: `what` is a line of its own where there is no bar, if it is new.
    pub(crate) fn begin(&mut self, what: &str, who: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("{what}, {who}")),
            None if self.said != what => {
                eprintln!("{:3} %  {what}", self.done * 100 / self.all.max(1));
                what.clone_into(&mut self.said);
            }
            None => {}
        }
    }

    pub(crate) fn advance(&mut self) {
        self.done += 1;
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// Something that should not wait for the report.
    pub(crate) fn say(&self, words: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{words}")),
            None => eprintln!("       {words}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
