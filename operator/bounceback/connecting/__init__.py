"""How clients get to a server, for probes and workloads alike: TLS as the spec has it, and logins that keep to it."""
