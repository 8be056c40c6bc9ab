//! The time to prepare and mount a writable root file system: `roots STORE IMAGE` does so a hundred times and prints the median
//! in milliseconds. Requires root.

use std::time::Instant;

use image_store::{Error, ErrorKind, Store, StoreOptions};

fn main() -> image_store::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, image] = arguments.as_slice() else {
        return Err(Error::new(ErrorKind::Invalid, "usage: roots STORE IMAGE"));
    };
    let store = Store::open(store, StoreOptions::default())?;
    let record = store.resolve(image)?;
    let mut times = Vec::new();
    for number in 0..100 {
        let id = format!("roots-{number}");
        let start = Instant::now();
        let mount = store.prepare(&record, &id)?.mount()?;
        times.push(start.elapsed());
        drop(mount);
        store.remove_container(&id)?;
    }
    store.empty_trash()?;
    times.sort_unstable();
    let line = format!("{:.2} ms for {} layers\n", times[50].as_secs_f64() * 1000.0, record.layers.len());
    std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes())?;
    Ok(())
}
