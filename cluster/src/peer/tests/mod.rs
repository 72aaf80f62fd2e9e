mod certificates;
mod faults;
mod hellos;
mod links;
mod proxy;
mod world;
