//! Whole clusters on one store in memory, in simulated time: nodes crash, freeze, lose the store or each other, and have wrong
//! clocks, while every act is held against what the store says at that moment.

mod engine;
mod gate;
mod model;
mod net;
mod node;
mod random;
mod scenarios;
mod world;
