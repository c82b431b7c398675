"""`./run test --kvm`: tests/vm on KVM, in an emulated machine whose processor has AMD's virtualisation."""
