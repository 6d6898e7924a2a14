package main

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// order is what --sort asks for; the zero order leaves things as they are.
type order[T any] struct {
	compare func(a, b *T) int
	down    bool
}

func sortFlag[T any](keys map[string]func(a, b *T) int) cli.Flag {
	return &cli.StringFlag{Name: "sort", Usage: "sort by `KEY`: " + strings.Join(slices.Sorted(maps.Keys(keys)), ", ") + "; -KEY the other way round"}
}

// parseOrder reads --sort.
func parseOrder[T any](c *cli.Context, keys map[string]func(a, b *T) int) (order[T], error) {
	key := c.String("sort")
	if key == "" {
		return order[T]{}, nil
	}
	name, down := strings.CutPrefix(key, "-")
	compare, ok := keys[name]
	if !ok {
		return order[T]{}, usagef("sort: %q; want one of %s, or one of them behind a minus sign", key, strings.Join(slices.Sorted(maps.Keys(keys)), ", "))
	}
	return order[T]{compare: compare, down: down}, nil
}

func (o order[T]) sort(list []T) {
	if o.compare == nil {
		return
	}
	slices.SortStableFunc(list, func(a, b T) int {
		if o.down {
			a, b = b, a
		}
		return o.compare(&a, &b)
	})
}

func nodeFlag() cli.Flag {
	return &cli.StringFlag{Name: "node", Usage: "only those of the node `NAME`, in which * stands for anything"}
}

// parseNode returns what --node lets pass.
func parseNode(c *cli.Context) (matches func(node string) bool, err error) {
	pattern := c.String("node")
	if pattern == "" {
		return func(string) bool { return true }, nil
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, usagef("node: %q is not a pattern: %w", pattern, err)
	}
	return func(node string) bool {
		ok, _ := path.Match(pattern, node) // the pattern is a good one
		return ok
	}, nil
}
