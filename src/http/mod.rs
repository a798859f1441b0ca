//! HTTP: ureq's client on greenloom's sockets (feature `ureq`).
