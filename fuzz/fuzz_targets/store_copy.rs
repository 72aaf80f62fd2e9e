#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| aesp_backup::fuzzing::store_copy(bytes));
