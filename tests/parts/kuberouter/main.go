// Command kuberouter enforces the NetworkPolicies of a cluster for the pods of one node, as k3s does it: with the policy
// controller of kube-router and nothing else of it, neither routing nor a proxy for services. It takes kube-router's flags.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"github.com/spf13/pflag"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

func main() {
	config := options.NewKubeRouterConfig()
	config.AddFlags(pflag.CommandLine)
	pflag.Parse()
	if err := enforce(config); err != nil {
		fmt.Fprintln(os.Stderr, "kube-router:", err)
		os.Exit(1)
	}
}

func enforce(config *options.KubeRouterConfig) error {
	klog.InitFlags(nil)
	if err := flag.Set("v", config.VLevel); err != nil {
		return fmt.Errorf("flag v: %w", err)
	}
	access, err := clientcmd.BuildConfigFromFlags(config.Master, config.Kubeconfig)
	if err != nil {
		return fmt.Errorf("kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(access)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	tables, sets, err := netpol.NewIPTablesHandlers(config)
	if err != nil {
		return fmt.Errorf("iptables and ipset: %w", err)
	}

	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	controller, err := netpol.NewNetworkPolicyController(
		client, config, pods, policies, namespaces, &sync.Mutex{}, tables, sets)
	if err != nil {
		return fmt.Errorf("policy controller: %w", err)
	}
	for _, err := range []error{
		second(pods.AddEventHandler(controller.PodEventHandler)),
		second(namespaces.AddEventHandler(controller.NamespaceEventHandler)),
		second(policies.AddEventHandler(controller.NetworkPolicyEventHandler)),
	} {
		if err != nil {
			return fmt.Errorf("event handler: %w", err)
		}
	}

	ended, release := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer release()
	factory.Start(ended.Done())
	for kind, synced := range factory.WaitForCacheSync(ended.Done()) {
		if !synced {
			return fmt.Errorf("ended before the cluster's %v were read", kind)
		}
	}
	// Each pass of the controller reports to a health check, and would stand still when nobody listened.
	beats := make(chan *healthcheck.ControllerHeartbeat)
	go func() {
		for range beats {
		}
	}()
	var running sync.WaitGroup
	running.Add(1)
	controller.Run(beats, ended.Done(), &running)
	running.Wait()
	return nil
}

// second drops a registration, which only those need who want to take their handler away again.
func second[T any](_ T, err error) error {
	return err
}
