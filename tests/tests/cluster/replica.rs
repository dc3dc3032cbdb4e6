//! A replica of the operator as a process of this machine, with its port at hand.

use std::time::{Duration, Instant};

use robotimage_tests::operator::{OperatorOptions, OperatorProcess};
use robotimage_tests::{Result, site};

use crate::local::Local;

/// A replica by its host name.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) process: OperatorProcess,
    pub(crate) host: String,
    pub(crate) address: String,
}

/// A free port of loopback.
pub(crate) fn free_address() -> Result<String> {
    Ok(format!("127.0.0.1:{}", site::free_port("127.0.0.1")?))
}

impl Replica {
    /// One of several in a namespace.
    pub(crate) fn of(local: &Local, host: &str) -> Result<Self> {
        let address = free_address()?;
        Ok(Self {
            process: local.replica(host, &address, None)?,
            host: host.to_owned(),
            address,
        })
    }

    /// The same with another kubeconfig.
    pub(crate) fn with_kubeconfig(local: &Local, host: &str, kubeconfig: &std::path::Path) -> Result<Self> {
        let address = free_address()?;
        Ok(Self {
            process: local.replica(host, &address, Some(kubeconfig))?,
            host: host.to_owned(),
            address,
        })
    }

    /// One by its own options; it is told where to listen.
    pub(crate) fn start(host: &str, mut options: OperatorOptions) -> Result<Self> {
        let address = free_address()?;
        options.args.push(format!("--listen={address}"));
        Ok(Self {
            process: OperatorProcess::start(options)?,
            host: host.to_owned(),
            address,
        })
    }

    /// What it answers: status code and text; `None` when it does not.
    pub(crate) async fn asks(&self, path: &str) -> Option<(u16, String)> {
        let ask = async {
            let answer = reqwest::get(format!("http://{}{path}", self.address)).await?;
            let code = answer.status().as_u16();
            Ok::<_, reqwest::Error>((code, answer.text().await?))
        };
        ask.await.ok()
    }

    /// Waits until a path answers with this code; gives the text.
    pub(crate) async fn wait_for(&self, path: &str, code: u16, limit: Duration) -> String {
        let end = Instant::now() + limit;
        loop {
            let answer = self.asks(path).await;
            if let Some((found, text)) = &answer
                && *found == code
            {
                return text.clone();
            }
            assert!(
                Instant::now() < end,
                "{path} of {} says {answer:?} after {limit:?}, not {code}; its log:\n{}",
                self.host,
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn wait_ready(&self, limit: Duration) {
        self.wait_for("/readyz", 200, limit).await;
    }

    pub(crate) fn log(&self) -> String {
        self.process.log().unwrap_or_default()
    }

    /// How many statuses it wrote.
    pub(crate) fn writes(&self) -> usize {
        self.log().matches("wrote the status").count()
    }
}
