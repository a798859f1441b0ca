//! The names under which checked builds of C call some of the others.
