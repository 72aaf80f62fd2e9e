//! Tests across components.
