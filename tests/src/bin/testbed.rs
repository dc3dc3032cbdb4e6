//! Entry point.
use robotimage_tests::{Cache, node};
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let t = std::time::Instant::now();
    let cache = Cache::open()?;
    let node = node::Node::start(&cache, node::Options::default()).await?;
    println!("ready {:?} KUBECONFIG={}", t.elapsed(), node.kubeconfig().display());
    tokio::time::sleep(std::time::Duration::from_secs(std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(5))).await;
    let t = std::time::Instant::now();
    node.stop()?;
    println!("stopped {:?}", t.elapsed());
    Ok(())
}
