package main

import (
	"context"
	"fmt"
	"strconv"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
)

// group is the one key that all Envoys' snapshots are under: one SetSnapshot serves them all, which is what costs
// SnapshotCache least.
const group = "all"

type oneGroup struct{}

func (oneGroup) ID(*core.Node) string { return group }

// peer is a cache and how a resource in it is changed.
type peer struct {
	cache.Cache
	// flip puts one of the two shapes of the resource that a change of this kind changes.
	flip func(kind string, shape int) error
}

func newPeer(name string, from *world) (*peer, error) {
	switch name {
	case "snapshot":
		return newSnapshotPeer(from)
	case "linear":
		return newLinearPeer(from), nil
	default:
		return nil, fmt.Errorf("no such cache: %s", name)
	}
}

// newSnapshotPeer holds everything in a SnapshotCache. A change is a new Snapshot, as its documentation says.
func newSnapshotPeer(from *world) (*peer, error) {
	snapshots := cache.NewSnapshotCache(true, oneGroup{}, nil)
	version := 0
	set := func() error {
		version++
		snapshot, err := cache.NewSnapshot(strconv.Itoa(version), from.byType)
		if err != nil {
			return err
		}
		return snapshots.SetSnapshot(context.Background(), group, snapshot)
	}
	flip := func(kind string, shape int) error {
		from.put(kind, shape)
		return set()
	}
	return &peer{Cache: snapshots, flip: flip}, set()
}

// newLinearPeer holds each type in a LinearCache of its own.
func newLinearPeer(from *world) *peer {
	caches := map[string]cache.Cache{}
	linear := map[string]*cache.LinearCache{}
	for url, resources := range from.byType {
		byName := make(map[string]types.Resource, len(resources))
		for _, message := range resources {
			byName[cache.GetResourceName(message)] = message
		}
		linear[url] = cache.NewLinearCache(url, cache.WithInitialResources(byName))
		caches[url] = linear[url]
	}
	mux := &cache.MuxCache{
		Classify:      func(request *cache.Request) string { return request.GetTypeUrl() },
		ClassifyDelta: func(request *cache.DeltaRequest) string { return request.GetTypeUrl() },
		Caches:        caches,
	}
	flip := func(kind string, shape int) error {
		message := from.changes[kind][shape]
		return linear[typeOf[kind]].UpdateResource(cache.GetResourceName(message), message)
	}
	return &peer{Cache: mux, flip: flip}
}
