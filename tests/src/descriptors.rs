//! Calls of any RPC, made from the descriptors alone.
