"""What Daytona's daemon answers in a sandbox, done from outside: nothing of Daytona's is in the guest."""
