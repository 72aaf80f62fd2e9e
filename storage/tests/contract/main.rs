//! What every engine of the store must do. The same tests run on memory, on memory that behaves like a store across a
//! network, on LMDB, and on the FoundationDB cluster whose cluster file `AESP_TEST_FDB_CLUSTER` names; without one they are
//! reported as skipped. What only LMDB or only FoundationDB can show has its own modules.

#![expect(clippy::unwrap_used, reason = "a test that can not go on fails")]
#![expect(clippy::print_stdout, reason = "seeds are printed")]

mod atomics;
mod audit_keys;
mod fdb_cluster;
mod fixture;
mod keys;
mod limits;
mod lmdb_disk;
mod lmdb_files;
mod lmdb_full;
mod lmdb_processes;
mod model;
mod platform;
mod ranges;
mod rotation;
mod rows;
mod serializable;
mod stamps;
mod unknown;
mod watches;

/// Runs each test on each engine.
macro_rules! on_every_engine {
    ($($module:ident::{$($name:ident),* $(,)?};)*) => {
        mod memory {
            $(mod $module { $(
                #[tokio::test(start_paused = true)]
                async fn $name() { crate::$module::$name(crate::fixture::memory().await).await; }
            )* })*
        }
        mod memory_like_fdb {
            $(mod $module { $(
                #[tokio::test(start_paused = true)]
                async fn $name() { crate::$module::$name(crate::fixture::memory_like_fdb().await).await; }
            )* })*
        }
        mod lmdb {
            $(mod $module { $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() { crate::$module::$name(crate::fixture::lmdb().await).await; }
            )* })*
        }
        mod fdb {
            $(mod $module { $(
                #[cfg_attr(not(fdb_cluster), ignore = "AESP_TEST_FDB_CLUSTER names no cluster file")]
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let store = crate::fixture::fdb().await;
                    let rows = store.clone();
                    crate::$module::$name(store).await;
                    crate::fixture::clear(&rows).await;
                }
            )* })*
        }
    };
}

on_every_engine! {
    serializable::{
        write_skew_is_refused, lost_updates_do_not_happen, phantoms_are_refused, snapshot_reads_do_not_conflict,
        a_snapshot_stands_still, transfers_keep_the_sum, an_error_writes_nothing, a_swallowed_conflict_still_reruns,
        a_removed_row_conflicts,
    };
    ranges::{both_directions_with_limits, own_writes_are_merged, bounds_are_half_open};
    atomics::{adds_do_not_conflict, own_operations_are_read, max_is_unsigned, odd_lengths_are_filled_up};
    stamps::{keys_come_in_commit_order, one_transaction_shares_a_stamp, stamped_data_is_unreadable_before_commit, values_are_stamped};
    unknown::{applied_once, lost_commits_are_made_again, a_late_commit_loses, turbulence_loses_and_doubles_nothing, old_requests_expire, failures_are_remembered};
    watches::{a_change_wakes, an_equal_value_or_another_key_does_not, a_cleared_range_wakes};
    limits::{keys_and_values, whole_transactions, rows_up_to_ten_megabytes};
    rows::{
        rows_come_back, scans_have_cursors, large_rows_are_chunked_and_cleaned, sealed_rows_are_bound_to_their_place,
        tenants_do_not_meet,
    };
    keys::{destroyed_keys_open_nothing, a_user_of_destroyed_keys_conflicts, keys_are_created_once, blinds_differ_by_tenant_and_kind};
    audit_keys::{
        either_key_destroyed_shuts_what_both_sealed, keys_that_were_not_committed_are_forgotten,
        who_seals_conflicts_with_who_destroys, the_key_of_an_older_release_opens_still,
    };
    rotation::{
        old_rows_are_sealed_anew_while_others_write, a_rotation_goes_on_where_it_stood, one_rotation_at_a_time,
        keys_destroyed_meanwhile_end_it,
    };
    platform::{
        revisions_count_up, shards_are_fenced, incarnations_are_never_given_twice, rights_are_logged_once_a_transaction,
        a_pruned_or_damaged_log_means_everybody, shards_move, damaged_shards_hide_nothing_else, damaged_rows_are_found,
    };
}
