//! Command lines, pipelines that end in every way, and a stop in the middle.

use super::*;
use std::os::unix::net::UnixStream;

/// What was printed.
#[derive(Clone, Default)]
struct Paper(Rc<RefCell<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.borrow().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

fn pipelines(commands: &[&str]) -> Vec<Pipeline> {
    commands.iter().map(|command| parse(command).unwrap().unwrap()).collect()
}

/// Runs them; what they have printed (in order of the lines' text), and how each has ended.
fn shell(commands: &[&str], jobs: usize) -> (Vec<String>, Vec<String>) {
    let (paper, stop) = (Paper::default(), Stop::default());
    let printer = Printer::new(paper.clone(), &stop);
    let reports = run(pipelines(commands), jobs, &printer, &stop);
    let mut lines = paper.lines();
    lines.sort();
    (lines, reports.iter().map(statuses).collect())
}

#[test]
fn runs() {
    let (lines, ends) = shell(&["echo hello | tr a-z A-Z", "sh -c 'echo oh >&2; exit 3'"], 2);
    assert_eq!(lines, ["[1] HELLO", "[2!] oh"]);
    assert_eq!(ends, ["0 | 0", "3"]);
}

#[test]
fn lines_are_understood_or_refused() {
    let stages = |line: &str| parse(line).map(|parsed| parsed.map(|pipeline| pipeline.stages));
    let words = |line: &str| stages(line).unwrap().unwrap().concat();
    assert_eq!(words("  a  b\tc # not this"), ["a", "b", "c"]);
    assert_eq!(
        words(r#"a 'b | c' "d'e" f\ g '' "\"h\"""#),
        ["a", "b | c", "d'e", "f g", "", "\"h\""]
    );
    assert_eq!(words("a#b"), ["a#b"]);
    assert_eq!(stages("a|b c | d").unwrap().unwrap(), [vec!["a"], vec!["b", "c"], vec!["d"]]);
    for nothing in ["", "   ", "# only a comment"] {
        assert_eq!(stages(nothing), Ok(None));
    }
    for wrong in ["|", "a |", "| a", "a || b", "a 'b", "a \"b", "a \\", "a > b", "a & b"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

/// More than all pipes between them hold.
#[test]
fn much_passes_through_a_long_pipeline() {
    let (lines, ends) = shell(&["head -c 3000000 /dev/zero | cat | cat | wc -c"], 1);
    assert_eq!(lines, ["[1] 3000000"]);
    assert_eq!(ends, ["0 | 0 | 0 | 0"]);
}

/// Its neighbours find an empty input, and nobody who reads.
#[test]
fn a_program_that_is_not_there_is_told_of() {
    let (lines, ends) = shell(&["no-such-program | wc -c", "echo a | no-such-program"], 1);
    assert!(lines.contains(&"[1] 0".to_owned()), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("[1!] no-such-program: ")), "{lines:?}");
    assert_eq!(ends[0], "not found | 0");
    assert!(ends[1].ends_with("| not found"), "{ends:?}");
}

#[test]
fn no_more_run_than_may() {
    let (stop, most, now) = (Stop::default(), Cell::new(0), Cell::new(0_usize));
    let printer = Printer::new(io::sink(), &stop);
    // A job counts itself when it begins and when it has ended.
    Pool::new(3).map(pipelines(&["sleep 0.01"; 12]), |pipeline| {
        now.set(now.get() + 1);
        most.set(most.get().max(now.get()));
        run_one(1, &pipeline, &printer, &stop);
        now.set(now.get() - 1);
    });
    assert_eq!(most.get(), 3);
}

#[test]
fn told_to_stop_it_passes_the_signal_on() {
    let (paper, stop) = (Paper::default(), Stop::default());
    let printer = Printer::new(paper.clone(), &stop);
    let commands = ["sh -c 'echo begun; sleep 3600 & wait' | cat", "sleep 3600", "echo never"];
    let stopper = {
        let (paper, stop) = (paper.clone(), stop.clone());
        spawn(move || {
            while paper.lines().is_empty() {
                greenloom::yield_now();
            }
            stop.set(SIGTERM);
        })
    };
    let reports = run(pipelines(&commands), 2, &printer, &stop);
    stopper.join();
    let ends: Vec<_> = reports.iter().map(statuses).collect();
    // The end of the pipeline may see the end of its input before it gets the signal.
    assert!(["SIGTERM | SIGTERM", "SIGTERM | 0"].contains(&&*ends[0]), "{ends:?}");
    assert_eq!(ends[1..], ["SIGTERM", "not run"]);
    assert_eq!(exit_code(&reports, &printer, &stop), ExitCode::from(128 + 15));
    assert_eq!(paper.lines(), ["[1] begun"]);
}

/// As with `| head`: no complaints.
#[test]
fn it_ends_quietly_when_nobody_reads_what_it_prints() {
    let (closed, _) = UnixStream::pair().unwrap();
    let stop = Stop::default();
    let printer = Printer::new(closed, &stop);
    let reports = run(pipelines(&["yes", "sleep 3600"]), 2, &printer, &stop);
    assert!(!reports.iter().any(Report::is_success));
    assert!(printer.failure.borrow().is_none(), "{:?}", printer.failure);
    assert_eq!(exit_code(&reports, &printer, &stop), ExitCode::FAILURE);
}

#[test]
fn it_ends_when_it_cannot_print() {
    let stop = Stop::default();
    let printer = Printer::new(&mut [0; 0][..], &stop);
    let reports = run(pipelines(&["echo a", "true"]), 2, &printer, &stop);
    assert!(printer.failure.borrow().is_some());
    assert_eq!(exit_code(&reports, &printer, &stop), ExitCode::FAILURE);
}

#[test]
fn the_table_has_a_line_a_job() {
    let stop = Stop::default();
    let printer = Printer::new(io::sink(), &stop);
    let reports = run(pipelines(&["true", "false | true"]), 2, &printer, &stop);
    let table = table(&reports);
    let lines: Vec<_> = table.lines().skip(1).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with(" job  status "), "{table}");
    assert!(lines[2].starts_with("   2  1 | 0 ") && lines[2].ends_with("false | true"));
    assert_eq!(exit_code(&reports, &printer, &stop), ExitCode::FAILURE);
}
