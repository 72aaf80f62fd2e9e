/// The right to write to an archive, and the store whose journal it takes. Cheap to clone: a [`Shipper`](crate::Shipper) and a
/// [`Snapshotter`](crate::Snapshotter) share one.
#[derive(Clone)]
pub struct Writer {}
