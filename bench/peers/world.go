package main

import (
	"fmt"
	"os"
	"path/filepath"

	// The types of the resources, to be found by their type URL.
	_ "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
)

// world is what one Envoy is served, and for each kind of change the resource before and after it.
type world struct {
	byType map[string][]types.Resource
	// Both shapes of the resource that each kind of change changes: as it is in byType, and the other one.
	changes map[string][2]types.Resource
}

// typeOf is the type that each kind of change is about.
var typeOf = map[string]string{"route": resource.RouteType, "endpoint": resource.EndpointType}

// load reads two DiscoveryResponses: all resources, and those of them that change, as they are after their change.
func load(folder string) (*world, error) {
	before, err := read(filepath.Join(folder, "resources.pb"))
	if err != nil {
		return nil, err
	}
	after, err := read(filepath.Join(folder, "changes.pb"))
	if err != nil {
		return nil, err
	}
	loaded := &world{byType: map[string][]types.Resource{}, changes: map[string][2]types.Resource{}}
	byName := map[string]types.Resource{}
	for _, message := range before {
		url := resource.APITypePrefix + string(message.ProtoReflect().Descriptor().FullName())
		loaded.byType[url] = append(loaded.byType[url], message)
		byName[url+cache.GetResourceName(message)] = message
	}
	for kind, url := range typeOf {
		for _, message := range after {
			if resource.APITypePrefix+string(message.ProtoReflect().Descriptor().FullName()) == url {
				loaded.changes[kind] = [2]types.Resource{byName[url+cache.GetResourceName(message)], message}
			}
		}
		shapes, found := loaded.changes[kind]
		if !found || shapes[0] == nil || proto.Equal(shapes[0], shapes[1]) {
			return nil, fmt.Errorf("%s: nothing that a change of kind %q changes", folder, kind)
		}
	}
	return loaded, nil
}

func read(path string) ([]types.Resource, error) {
	bytes, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var response discovery.DiscoveryResponse
	if err := proto.Unmarshal(bytes, &response); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	resources := make([]types.Resource, 0, len(response.GetResources()))
	for _, packed := range response.GetResources() {
		message, err := packed.UnmarshalNew()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		resources = append(resources, message)
	}
	return resources, nil
}

// names are the names of the resources of a type.
func (w *world) names(url string) []string {
	names := make([]string, 0, len(w.byType[url]))
	for _, message := range w.byType[url] {
		names = append(names, cache.GetResourceName(message))
	}
	return names
}

// put replaces a resource by another of the same name. The slices are new, as they are where a program makes a snapshot.
func (w *world) put(kind string, shape int) {
	url := typeOf[kind]
	old, replacement := w.changes[kind][1-shape], w.changes[kind][shape]
	resources := make([]types.Resource, len(w.byType[url]))
	copy(resources, w.byType[url])
	for place, candidate := range resources {
		if candidate == old {
			resources[place] = replacement
		}
	}
	w.byType[url] = resources
}
