//! A scheduler of jobs: what is urgent goes first, and equals go in the order in which they came.
//!
//! ```text
//! cargo run --example priority
//! ```
//!
//! A `PriorityQueue` gives out its smallest item, so all it takes is an order among jobs. Here it is
//! a joinable one, too: it knows when the last job is done.

#![expect(clippy::print_stdout, reason = "shows what is done when")]

use std::cmp::Ordering;

use greenloom::queue::{JoinableQueue, Priority};

fn main() {
    let jobs = vec![
        job(Urgency::Someday, "tidy the cellar"),
        job(Urgency::Normal, "read the letters")
            .leading_to(job(Urgency::Urgent, "pay the overdue bill"))
            .leading_to(job(Urgency::Normal, "answer the letters")),
        job(Urgency::Urgent, "put out the fire"),
        job(Urgency::Normal, "water the flowers"),
        job(Urgency::Urgent, "call the insurance"),
    ];
    do_all(jobs, |job| println!("{:8} {}", format!("{:?}", job.urgency), job.name));
}

/// The most urgent is the smallest: it comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Urgent,
    Normal,
    Someday,
}

#[derive(Debug)]
struct Job {
    urgency: Urgency,
    name: &'static str,
    /// What turns out to be necessary when this one is done.
    leads_to: Vec<Job>,
}

fn job(urgency: Urgency, name: &'static str) -> Job {
    Job { urgency, name, leads_to: Vec::new() }
}

impl Job {
    fn leading_to(mut self, next: Job) -> Job {
        self.leads_to.push(next);
        self
    }
}

/// By urgency alone. The queue keeps those that are equal in order of arrival.
impl Ord for Job {
    fn cmp(&self, other: &Job) -> Ordering {
        self.urgency.cmp(&other.urgency)
    }
}

impl PartialOrd for Job {
    fn partial_cmp(&self, other: &Job) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Job {
    fn eq(&self, other: &Job) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Job {}

/// Does all the jobs, and all that they lead to. `tell` hears of each when it is its turn.
fn do_all(jobs: Vec<Job>, tell: impl Fn(&Job)) {
    let to_do = JoinableQueue::<Job, Priority>::new();
    for job in jobs {
        to_do.put(job).expect("the queue is open");
    }
    greenloom::scope(|scope| {
        scope.spawn(|| work(&to_do, tell));
        // Not when the queue is empty: the job in hand may lead to others.
        to_do.join();
        to_do.shutdown();
    });
}

/// Takes one job after the other until the queue is shut down.
fn work(to_do: &JoinableQueue<Job, Priority>, tell: impl Fn(&Job)) {
    for job in to_do.iter() {
        tell(&job);
        for next in job.leads_to {
            to_do.put(next).expect("it is shut down only when all is done");
        }
        to_do.task_done().expect("one for each that was put");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Urgency::{Normal, Someday, Urgent};
    use std::cell::RefCell;

    fn order(jobs: Vec<Job>) -> Vec<&'static str> {
        let order = RefCell::new(Vec::new());
        do_all(jobs, |job| order.borrow_mut().push(job.name));
        order.into_inner()
    }

    #[test]
    fn runs() {
        main();
    }

    #[test]
    fn the_urgent_goes_first() {
        let jobs = vec![job(Someday, "late"), job(Normal, "middle"), job(Urgent, "early")];
        assert_eq!(order(jobs), ["early", "middle", "late"]);
    }

    #[test]
    fn equals_go_in_order_of_arrival() {
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let all = || names.map(|name| job(Normal, name)).into_iter();
        assert_eq!(order(all().collect()), names);

        // Also when others come and go between them.
        let urgent = || names.map(|name| job(Urgent, name)).into_iter();
        let mixed = all().zip(urgent()).flat_map(|(normal, urgent)| [normal, urgent]);
        assert_eq!(order(mixed.collect()), [names, names].concat());
    }

    /// What comes later overtakes what is less urgent, and nothing else.
    #[test]
    fn what_a_job_leads_to_finds_its_place() {
        let first = job(Urgent, "first")
            .leading_to(job(Someday, "last"))
            .leading_to(job(Normal, "fourth").leading_to(job(Urgent, "fifth")))
            .leading_to(job(Urgent, "second"));
        let jobs = vec![job(Someday, "sixth"), first, job(Normal, "third")];
        assert_eq!(
            order(jobs),
            ["first", "second", "third", "fourth", "fifth", "sixth", "last"],
            "of two that are equal, the older"
        );
    }

    #[test]
    fn nothing_to_do() {
        assert_eq!(order(Vec::new()), [""; 0]);
    }
}
