// The definitions of Gateway API's kinds, as its module carries them. No Go here: `tools/build` copies the folder of their
// standard channel.
module tailscale-gateway.test/gateway-api

go 1.26.0

require sigs.k8s.io/gateway-api v1.6.3
