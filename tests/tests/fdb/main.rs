//! FoundationDB servers of the tests' own: TLS, the reference topologies with what they survive, backup and restore. They need the
//! folder of the server's programs in `AESP_TEST_FDB_BIN`, and are reported as skipped without. The client library knows one set of
//! TLS files a process: run them with nextest, which gives each test a process.

#![expect(clippy::unwrap_used, reason = "a test that can not go on fails")]
#![expect(clippy::print_stdout, reason = "what was measured is printed")]

mod backup;
mod store;
mod tls;
mod topologies;
