"""Several processes that train one policy: how they find each other, exchange tensors and notice a lost one."""
