"""The way of a request: Envoy by plain configuration, the gate for tenants in transition, the adapter to the target."""
