//! `monkey`'s own functions: what they turn on, and what they say about it.

#![expect(unsafe_code, reason = "functions of C are called as C code would")]
#![expect(clippy::disallowed_methods, reason = "std's sleep is one of the patched calls")]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::{CString, c_int};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::rc::Rc;
use std::thread;

use greenloom::monkey::{self, Patch, Report};
use greenloom::{dump, idle, spawn, yield_now};

mod monkey_util;
use monkey_util::{alone, ms};

fn on() -> Vec<Patch> {
    Patch::ALL.iter().copied().filter(|patch| monkey::is_patched(*patch)).collect()
}

alone! {
    fn nothing_is_patched_until_somebody_says_so() {
        spawn(|| ()).join();
        assert_eq!(on(), []);
        assert_eq!(dump().patches(), []);
        assert!(!dump().to_string().contains("patched"));
        assert!(monkey::report().entries().iter().all(|(_, on)| !on));
    }

    fn patch_all_is_everything_but_files_and_may_be_called_again() {
        for _ in 0..3 {
            monkey::patch_all();
            let all: Vec<_> = Patch::ALL.iter().copied().filter(|p| *p != Patch::File).collect();
            assert_eq!(on(), all);
            assert_eq!(dump().patches(), all);
        }
        monkey::patch_file();
        assert_eq!(on(), Patch::ALL);
        monkey::patch_all();
        assert_eq!(on(), Patch::ALL, "what is on stays on");
        let dump = dump().to_string();
        let last = dump.lines().last().unwrap();
        assert_eq!(last, "patched: socket, time, dns, select, process, thread, lock, file");
    }

    fn patch_all_except_leaves_some_out_and_turns_none_off() {
        monkey::patch_all_except([Patch::Lock, Patch::Time, Patch::Lock]);
        assert_eq!(
            on(),
            [Patch::Socket, Patch::Dns, Patch::Select, Patch::Process, Patch::Thread]
        );
        monkey::patch_lock();
        monkey::patch_all_except(vec![Patch::Lock]);
        assert!(monkey::is_patched(Patch::Lock) && monkey::is_patched(Patch::Time));
    }

    fn each_function_turns_on_its_own_family() {
        let functions: [(fn(), Patch); 8] = [
            (monkey::patch_socket, Patch::Socket),
            (monkey::patch_time, Patch::Time),
            (monkey::patch_dns, Patch::Dns),
            (monkey::patch_select, Patch::Select),
            (monkey::patch_process, Patch::Process),
            (monkey::patch_thread, Patch::Thread),
            (monkey::patch_lock, Patch::Lock),
            (monkey::patch_file, Patch::File),
        ];
        assert_eq!(functions.len(), Patch::ALL.len());
        for (n, (patch_it, patch)) in functions.into_iter().enumerate() {
            assert!(!monkey::is_patched(patch));
            patch_it();
            patch_it();
            assert_eq!(on(), Patch::ALL[..=n]);
            assert_eq!(monkey::report().entries()[n], (patch, true));
        }
    }

    fn a_socket_parks_where_only_sockets_are_patched_and_a_sleep_does_not() {
        monkey::patch_socket();
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let reader = spawn(move || other.read(&mut [0; 8]).unwrap());
        idle();
        assert_eq!(dump().greenlets()[1].state, "parked");
        let sleeper = spawn(|| thread::sleep(ms(1)));
        idle();
        assert!(sleeper.is_finished(), "nobody ran while it slept");
        one.write_all(b"x").unwrap();
        assert_eq!(reader.get().unwrap(), 1);
    }

    fn a_sleep_parks_where_only_time_is_patched_and_a_socket_does_not() {
        monkey::patch_time();
        let sleeper = spawn(|| thread::sleep(ms(1)));
        idle();
        assert_eq!(dump().greenlets()[1].state, "parked");
        sleeper.join();
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let writer = thread::spawn(move || {
            thread::sleep(ms(20));
            one.write_all(b"x").unwrap();
        });
        let reader = spawn(move || other.read(&mut [0; 8]).unwrap());
        idle();
        assert!(reader.is_finished(), "nobody ran while it read");
        writer.join().unwrap();
    }
}

alone! {
    fn a_file_is_read_by_a_thread_where_only_files_are_patched() {
        let others_run_meanwhile = || {
            let reads = Rc::new(Cell::new(false));
            let here = Rc::clone(&reads);
            let reader = spawn(move || {
                here.set(true);
                assert!(!std::fs::read("Cargo.toml").unwrap().is_empty());
                here.set(false);
            });
            let mut seen = false;
            while !reader.is_finished() {
                seen |= reads.get();
                yield_now();
            }
            seen
        };
        assert!(!others_run_meanwhile());
        monkey::patch_file();
        assert!(others_run_meanwhile());
    }
}

// ── Names ──

fn all_functions() -> Vec<&'static str> {
    Patch::ALL.iter().flat_map(|patch| Report::functions(*patch)).collect()
}

#[test]
fn a_report_has_a_paragraph_for_each_family() {
    let text = monkey::report().to_string();
    let mut read = Vec::new();
    for line in text.lines() {
        assert!(line.len() <= 96, "{line}");
        let (head, names) = line.split_at(21);
        if !head.trim().is_empty() {
            let (name, state) = head.split_at(9);
            assert!(["patched", "not patched"].contains(&state.trim()), "{line}");
            read.push((name.trim().to_owned(), Vec::new()));
        }
        read.last_mut().unwrap().1.extend(names.split_whitespace().map(str::to_owned));
    }
    let expected: Vec<(String, Vec<String>)> = Patch::ALL
        .iter()
        .map(|patch| {
            let functions = Report::functions(*patch);
            (patch.to_string(), functions.into_iter().map(str::to_owned).collect())
        })
        .collect();
    assert_eq!(read, expected, "{text}");
}

#[test]
fn no_function_belongs_to_two_families() {
    let functions = all_functions();
    assert_eq!(functions.iter().collect::<BTreeSet<_>>().len(), functions.len());
    assert!(Patch::ALL.iter().all(|patch| !Report::functions(*patch).is_empty()));
}

/// The names that this program gives to others, so that shared libraries of C find them here.
fn exported() -> BTreeSet<String> {
    let me = std::env::current_exe().unwrap();
    let nm = Command::new("nm").args(["--dynamic", "--defined-only"]).arg(me).output();
    let nm = nm.expect("nm comes with the linker");
    assert!(nm.status.success());
    let symbols = String::from_utf8(nm.stdout).unwrap();
    let functions = symbols.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        (words.next() == Some("T")).then(|| words.next().unwrap().to_owned())
    });
    functions.collect()
}

#[test]
fn the_report_names_every_function_that_takes_the_place_of_one_of_cs() {
    let of_c = |name: &String| {
        let name = CString::new(name.as_str()).unwrap();
        // SAFETY: the name ends with a zero.
        !unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }.is_null()
    };
    let exported: BTreeSet<_> = exported().into_iter().filter(of_c).collect();
    let reported: BTreeSet<_> = all_functions().into_iter().map(str::to_owned).collect();
    assert_eq!(exported, reported);
}

#[test]
fn whoever_looks_a_function_up_finds_ours() {
    assert_eq!(monkey::report().elsewhere(), [""; 0]);
    type Recv = unsafe extern "C" fn(c_int, *mut libc::c_void, usize, c_int) -> isize;
    let linked: Recv = libc::recv;
    // SAFETY: the name ends with a zero.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"recv".as_ptr()) };
    assert_eq!(found.addr(), linked as usize);
}

/// The table in the documentation, and what there is.
#[test]
fn the_documentation_lists_every_function() {
    let docs = include_str!("../src/monkey/mod.rs");
    let rows =
        docs.lines().filter_map(|line| line.strip_prefix("//! | [`")?.split_once("`](Patch::"));
    let mut documented = Vec::new();
    for (name, row) in rows {
        let functions = row.split('|').nth(1).unwrap();
        let functions: BTreeSet<_> = functions.split('`').skip(1).step_by(2).collect();
        documented.push((name.to_lowercase(), functions));
    }
    let there_is: Vec<_> = Patch::ALL
        .iter()
        .map(|patch| (patch.to_string(), Report::functions(*patch).into_iter().collect()))
        .collect();
    assert_eq!(documented, there_is);
}
