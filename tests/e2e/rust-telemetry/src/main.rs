//! An extension made of AWS's own Rust library as its documentation shows: whatever the library takes for telemetry
//! (it parses every event into its types) is printed, one line each.

use lambda_extension::{service_fn, Error, Extension, LambdaTelemetry, SharedService};

async fn show(events: Vec<LambdaTelemetry>) -> Result<(), Error> {
    for event in events {
        println!("rust told {}", serde_json::to_string(&event)?);
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Extension::new()
        .with_telemetry_types(&["platform", "function"])
        .with_telemetry_processor(SharedService::new(service_fn(show)))
        .run()
        .await
}
