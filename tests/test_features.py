"Facts as features: what each builder makes, what leaks (nothing), and what a newcomer gets from them."
