//! Prints every record of a partition, a line of JSON each: `cargo run --example dump -- redis://host:port app 0`.

use ff_backend_valkey::{Options, ValkeyBackend};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, prefix, partition, partitions @ ..] = words.as_slice() else {
        return Err("give an address, a prefix, a partition, and the number of partitions unless it is 16".into());
    };
    let mut options = Options::default();
    options.prefix.clone_from(prefix);
    if let Some(count) = partitions.first() {
        options.deployment.partitions =
            ff_core::partition::PartitionConfig::new(count.parse()?).ok_or("no such number of partitions")?;
    }
    let backend = ValkeyBackend::connect(url, options).await?;
    for line in backend.dump(partition.parse()?).await? {
        println!("{line}");
    }
    Ok(())
}
