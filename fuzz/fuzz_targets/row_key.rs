#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| aesp_storage::fuzzing::row_key(bytes));
