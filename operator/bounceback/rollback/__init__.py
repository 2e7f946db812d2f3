"""The rollback pod's program: what an operator that is gone has changed is put right when its time is over."""
